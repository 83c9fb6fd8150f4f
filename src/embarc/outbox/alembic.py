"""The outbox as an Alembic migration. In a new, empty revision:

    from embarc.outbox.alembic import downgrade, upgrade

and nothing else: Alembic finds the two functions by name. Where the revision does more, call them from your own.
"""

from __future__ import annotations

from embarc.outbox.schema import ddl, drop_ddl


def upgrade() -> None:
    """Make the outbox in the database that is being migrated."""
    from alembic import op

    for statement in ddl(op.get_context().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    """Take it away, with every event in it."""
    from alembic import op

    for statement in drop_ddl(op.get_context().dialect.name):
        op.execute(statement)
