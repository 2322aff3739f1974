"""What the source of an application's functions says; nothing of it is called."""
