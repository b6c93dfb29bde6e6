"""How fast: vbnfs beside other ways to read the data (script/bench)."""
