"""What the application's router says about a path."""
