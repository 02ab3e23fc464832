"""LangChain's own tests of vector stores, which `test_langchain` runs in a process of their own."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

from farann.adapters.langchain import FarannVectorStore


class TestFarannVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> FarannVectorStore:
        return FarannVectorStore(self.get_embeddings())
