"""Sharded indexes: what Ray costs here, and what many shards would take."""
