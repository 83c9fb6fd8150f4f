-- Each tenant's secrets are sealed with a key of its own, which lies here wrapped by the installation's.
create table data_keys (
  key_id bytea primary key,
  tenant text not null,
  wrapped bytea not null,
  wrapped_by text not null,
  created_at_ms bigint not null,
  is_retired boolean not null default false
);

create unique index data_keys_in_force on data_keys (tenant) where not is_retired;

-- Where each chain of the audit log ends, signed: taking out the newest entries is noticed too.
create table audit_heads (
  tenant text primary key,
  number bigint not null,
  digest bytea not null,
  signature bytea not null
);

-- Not signed yet: that is done together with the installation's first data key, once.
insert into audit_heads (tenant, number, digest, signature)
select distinct on (tenant) tenant, number, digest, ''::bytea
from audits
order by tenant, number desc;

-- A tenant's own kinds of event, beside those that ship with Embarc.
create table kinds (
  tenant text not null,
  entity_name text not null,
  action_name text not null,
  grouping text not null,
  description text not null,
  sample bytea not null,
  created_at_ms bigint not null,
  primary key (tenant, entity_name, action_name)
);

-- Doors for other systems' events. Of a secret only its digest is kept: it is random enough for a plain hash.
create table inlets (
  id bigint generated always as identity primary key,
  tenant text not null,
  name text not null,
  digest bytea not null unique,
  forwards_failures boolean not null,
  created_by text not null,
  created_at_ms bigint not null
);

create index inlets_by_tenant on inlets (tenant, id);

-- The processes that share this store, and which of them works for which segment of the hooks.
create table members (
  number bigint primary key,
  name text not null,
  dispatches boolean not null,
  conditions text not null,
  seen_at_ms bigint not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

create table segments (
  segment integer primary key,
  owner bigint
) with (fillfactor = 50);

insert into segments (segment)
select generate_series(0, 255);
