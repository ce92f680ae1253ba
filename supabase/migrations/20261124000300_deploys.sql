-- Which deploy forms were used, for a week and whatever became of their servers: a click that was held up
-- on its way must not deploy again what was removed meanwhile (tests/chaos, a frozen replica).
create table mooring.deploys (
  workspace_id uuid not null references public.workspaces on delete cascade,
  idempotency_key uuid not null,
  server_id uuid not null,
  at timestamptz not null default now(),
  primary key (workspace_id, idempotency_key)
);
create index on mooring.deploys (at);
alter table mooring.deploys enable row level security;
alter table mooring.deploys force row level security;
insert into mooring.deploys (workspace_id, idempotency_key, server_id)
select workspace_id, idempotency_key, id from public.servers;

create function mooring.note_deploy() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  delete from mooring.deploys d where d.at < now() - interval '7 days';
  insert into mooring.deploys (workspace_id, idempotency_key, server_id)
  values (new.workspace_id, new.idempotency_key, new.id);
  return null;
end $$;
create trigger note_deploy after insert on public.servers
  for each row execute function mooring.note_deploy();

-- The server that a form became, if it was used; also when the server is there no more.
create function mooring.server_of_deploy(workspace uuid, key uuid) returns uuid
language sql stable security definer set search_path = '' as $$
  select d.server_id from mooring.deploys d
  where d.workspace_id = workspace and d.idempotency_key = key
    and d.workspace_id in (select mooring.workspaces_as('viewer'))
$$;
revoke all on function mooring.note_deploy, mooring.server_of_deploy from public;
grant execute on function mooring.server_of_deploy to authenticated;
