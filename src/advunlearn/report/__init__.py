"""What people see of a run: tables, pictures and one page."""
