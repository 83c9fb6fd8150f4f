-- Each tenant's secrets are sealed with a key of its own, which lies here wrapped by the installation's.
create table data_keys (
  key_id blob primary key,
  tenant text not null,
  wrapped blob not null,
  wrapped_by text not null,
  created_at_ms integer not null,
  is_retired integer not null default 0
) strict, without rowid;

create unique index data_keys_in_force on data_keys (tenant) where not is_retired;

-- Where each chain of the audit log ends, signed: taking out the newest entries is noticed too.
create table audit_heads (
  tenant text primary key,
  number integer not null,
  digest blob not null,
  signature blob not null
) strict, without rowid;

-- Not signed yet: that is done together with the installation's first data key, once.
insert into audit_heads (tenant, number, digest, signature)
select tenant, number, digest, x''
from audits
where (tenant, number) in (select a.tenant, max(a.number) from audits a group by a.tenant);
