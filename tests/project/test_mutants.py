"""Defects are planted in code that changed, and nowhere else."""

from __future__ import annotations

import mutants

DIFF = """--- a/farann/native/a.pyx
+++ b/farann/native/a.pyx
@@ -3 +3,2 @@ cdef class A:
+    if a < b:
+        return max(a, 0.0)
@@ -9,2 +11,0 @@
@@ -20 +19 @@
"""
CODE = '''"""Less < than."""
cdef int f(int a, int b=True):
    """More > than."""
    cdef bint c = a < b  # a > b
    # a > b
    return not c
'''


def test_lines_that_a_diff_adds() -> None:
    assert list(mutants.changed(DIFF)) == [
        ("farann/native/a.pyx", number) for number in (3, 4, 19)]


def test_code_is_changed_but_no_comment_docstring_or_signature() -> None:
    found = list(mutants.mutants_of("a.pyx", CODE, set(range(1, 7))))
    assert [(mutant.number, mutant.line) for mutant in found] == [
        (4, "    cdef bint c = a <= b  # a > b"), (6, "    return c"), (6, "    return 1 + not c")]
    assert list(mutants.mutants_of("a.pyx", CODE, {5})) == []


def test_comments_in_c_are_left_alone() -> None:
    code = "/* a < b\n * a > b */\nx = a < b; /* a > b */\ny = a + b; // a - b\n"
    found = list(mutants.mutants_of("src_c/a.c", code, {1, 2, 3, 4}))
    assert [mutant.line for mutant in found] == [
        "x = a <= b; /* a > b */", "y = a - b; // a - b"]
