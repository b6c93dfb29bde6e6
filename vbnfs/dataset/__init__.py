"""What exists: dataset versions, their files, and the tree that is made of them."""
