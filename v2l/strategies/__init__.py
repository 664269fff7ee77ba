"""Many segments and one question: each segment ready to be asked, which of them answer, and what an answer tells."""
