"""PostgreSQL: many processes on many machines over one database."""
