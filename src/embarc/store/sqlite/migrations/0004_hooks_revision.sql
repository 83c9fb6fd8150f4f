-- Rises with every change of a hook: whoever publishes matches against hooks in memory.
create table hooks_revision (
  only_one integer primary key default 1 check (only_one = 1),
  revision integer not null
) strict;

insert into hooks_revision (revision) values (1);
