"""The ledger in a database: SQLite, PostgreSQL, MariaDB."""
