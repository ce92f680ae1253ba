-- Where the links end that toolboxes behind NAT keep open to the app: with several replicas, a call
-- that comes to another one is forwarded there. A replica is addressed by its REPLICA_ADDRESS, never by
-- what a toolbox says.
create table mooring.tunnels (
  toolbox_id uuid primary key references public.toolboxes on delete cascade,
  replica_address text not null check (replica_address ~ '^https?://' and char_length(replica_address) <= 500),
  opened_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);
alter table mooring.tunnels enable row level security;
alter table mooring.tunnels force row level security;

-- The toolbox's link ends at this replica from now on.
create function mooring.put_tunnel(toolbox uuid, address text) returns void
language sql security definer set search_path = '' as $$
  insert into mooring.tunnels (toolbox_id, replica_address)
  select t.id, address from public.toolboxes t where t.id = toolbox and t.revoked_at is null
  on conflict (toolbox_id) do update
    set replica_address = excluded.replica_address, opened_at = now(), seen_at = now()
$$;

-- The replica says again that it has the link.
create function mooring.tunnel_seen(toolbox uuid, address text) returns void
language sql security definer set search_path = '' as $$
  update mooring.tunnels set seen_at = now() where toolbox_id = toolbox and replica_address = address
$$;

-- The replica lost the link; one that was opened to another meanwhile stays.
create function mooring.drop_tunnel(toolbox uuid, address text) returns void
language sql security definer set search_path = '' as $$
  delete from mooring.tunnels where toolbox_id = toolbox and replica_address = address
$$;

-- Where the toolbox's link ends; no row when no replica said so within a minute.
create function mooring.replica_of_tunnel(toolbox uuid) returns setof text
language sql stable security definer set search_path = '' as $$
  select replica_address from mooring.tunnels
  where toolbox_id = toolbox and seen_at > now() - interval '1 minute'
$$;

revoke all on function mooring.put_tunnel, mooring.tunnel_seen, mooring.drop_tunnel,
  mooring.replica_of_tunnel from public;
grant execute on function mooring.put_tunnel, mooring.tunnel_seen, mooring.drop_tunnel,
  mooring.replica_of_tunnel to mooring_app;
