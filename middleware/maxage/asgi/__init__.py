"""What the responders of requests share: scope, receive and send."""
