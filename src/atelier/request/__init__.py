"""What somebody asks for, as frozen data; and what happens then, as events. No torch in here."""
