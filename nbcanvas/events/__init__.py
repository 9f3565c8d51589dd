"""What is heard of tasks, and the one value that makes sense of it."""
