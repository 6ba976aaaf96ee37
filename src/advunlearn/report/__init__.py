"""What is shown of runs: tables, pictures and pages."""
