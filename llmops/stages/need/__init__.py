"""What must hold before a model may go live, and what it will cost here."""
