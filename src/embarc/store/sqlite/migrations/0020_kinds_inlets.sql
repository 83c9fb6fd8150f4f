-- A tenant's own kinds of event, beside those that ship with Embarc.
create table kinds (
  tenant text not null,
  entity_name text not null,
  action_name text not null,
  grouping text not null,
  description text not null,
  sample blob not null,
  created_at_ms integer not null,
  primary key (tenant, entity_name, action_name)
) strict, without rowid;

-- Doors for other systems' events. Of a secret only its digest is kept: it is random enough for a plain hash.
create table inlets (
  id integer primary key autoincrement,
  tenant text not null,
  name text not null,
  digest blob not null unique,
  forwards_failures integer not null,
  created_by text not null,
  created_at_ms integer not null
) strict;

create index inlets_by_tenant on inlets (tenant, id);
