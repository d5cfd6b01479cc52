"""What all parties talk to under load: as fast as plain asyncio gets, and no more than they ask."""
