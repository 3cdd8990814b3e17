"""What may pass, and in what form: pure decisions about a call, before and after its tries."""
