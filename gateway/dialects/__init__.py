"""Wire protocols, one folder each: shapes, and rewriting of bodies."""
