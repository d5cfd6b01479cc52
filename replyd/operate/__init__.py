"""What operators ask: what happens in a conversation, what became of a message, what is dead."""
