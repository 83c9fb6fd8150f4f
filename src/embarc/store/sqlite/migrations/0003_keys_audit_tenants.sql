create table tenants (
  name text primary key,
  display_name text not null,
  created_at_ms integer not null
) strict, without rowid;

-- Of a key only its digest is kept: it is random enough for a plain hash.
create table api_keys (
  key_id text primary key,
  tenant text not null,
  name text not null,
  digest blob not null,
  permissions text not null,
  created_by text not null,
  created_at_ms integer not null,
  expires_at_ms integer,
  last_used_at_ms integer,
  revoked_at_ms integer
) strict, without rowid;

create index api_keys_by_tenant on api_keys (tenant, key_id);

-- Each row's digest covers the one before it of the same tenant: what is changed or taken out later is noticed.
create table audits (
  tenant text not null,
  number integer not null,
  at_ms integer not null,
  username text not null,
  action text not null,
  resource_id text not null,
  before text not null,
  after text not null,
  digest blob not null,
  primary key (tenant, number)
) strict, without rowid;
