"""A kit for testing: shipped, so that users test their own state machines and stores with it."""
