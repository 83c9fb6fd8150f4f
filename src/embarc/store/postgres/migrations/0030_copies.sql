-- A copy of another store into this one: how far it has come. While it is not finished no service starts.
create table copies (
  only_one boolean primary key default true check (only_one),
  copy_id text not null,
  source text not null,
  progress bytea not null,
  started_at_ms bigint not null,
  finished_at_ms bigint
);
