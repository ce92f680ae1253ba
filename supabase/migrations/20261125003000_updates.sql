-- Newer versions of what servers were deployed from, and what is known of a catalog entry by having run it.

-- Of the version that a person does not want offered (models/updates.ts); another one is offered again.
alter table public.servers add column skipped_update text check (length(skipped_update) <= 300);
grant update (skipped_update) on public.servers to authenticated;

alter table public.server_generations
  -- Why it never got ready, and what it wrote, where the app went back from it: the observation that says so is
  -- overwritten by the next generation's.
  add column failure text check (length(failure) <= 4000),
  add column failure_log json;

-- That a catalog entry's very package got ready here: image, container, handshake and tools. The newest of each
-- entry; it stays when the server goes.
create table public.catalog_proofs (
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  entry_id uuid not null references public.catalog_entries (id) on delete cascade,
  -- As the generation had it: once the entry names another one, this proves nothing of it.
  package jsonb not null,
  image_digest text,
  ready_at timestamptz not null,
  primary key (workspace_id, entry_id)
);
create index on public.catalog_proofs (entry_id);
revoke all on public.catalog_proofs from public, anon, authenticated;
alter table public.catalog_proofs enable row level security;
alter table public.catalog_proofs force row level security;
grant select on public.catalog_proofs to authenticated;
create policy person_reads on public.catalog_proofs for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));

create function mooring.note_proof() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.catalog_proofs (workspace_id, entry_id, package, image_digest, ready_at)
  select s.workspace_id, s.catalog_entry_id, new.config #> '{entry,package}', o.image_digest, new.ready_at
  from public.servers s left join public.observations o on o.server_id = s.id and o.generation = new.generation
  where s.id = new.server_id and s.catalog_entry_id is not null
  on conflict (workspace_id, entry_id) do update set package = excluded.package,
    image_digest = excluded.image_digest, ready_at = excluded.ready_at;
  return null;
end $$;
create trigger note_proof after update of ready_at on public.server_generations
  for each row when (old.ready_at is null and new.ready_at is not null) execute function mooring.note_proof();
revoke all on function mooring.note_proof from public;

insert into public.catalog_proofs (workspace_id, entry_id, package, image_digest, ready_at)
select distinct on (s.workspace_id, s.catalog_entry_id) s.workspace_id, s.catalog_entry_id,
  g.config #> '{entry,package}', o.image_digest, g.ready_at
from public.servers s
join public.server_generations g on g.server_id = s.id and g.ready_at is not null
left join public.observations o on o.server_id = s.id and o.generation = g.generation
where s.catalog_entry_id is not null
order by s.workspace_id, s.catalog_entry_id, g.ready_at desc;

-- As it was, and it keeps why.
create or replace function mooring.roll_back(server uuid, failed integer) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  of_server public.servers;
  last_good public.server_generations;
  given_up public.server_generations;
  seen public.observations;
  reason text;
begin
  select s.* into of_server from public.servers s
  where s.id = server and s.toolbox_id = mooring.toolbox_id() and s.generation = failed
    and s.running and s.removed_at is null
  for no key update;
  if not found then return null; end if;
  select g.* into given_up from public.server_generations g where g.server_id = server and g.generation = failed;
  -- One that was ready once, or is a way back itself, is not gone back from.
  if given_up.ready_at is not null or given_up.rolled_back_to is not null then return null; end if;
  select g.* into last_good from public.server_generations g
  where g.server_id = server and g.generation < failed and g.ready_at is not null
  order by g.generation desc limit 1;
  if not found or last_good.config = given_up.config then return null; end if;
  -- An account that was connected meanwhile is for the host of now, and never sent to another.
  if last_good.config #> '{entry,package,url}' is distinct from given_up.config #> '{entry,package,url}'
    and exists (select from public.authorizations a where a.server_id = server) then return null; end if;
  select o.* into seen from public.observations o where o.server_id = server and o.generation = failed;
  select left(concat_ws('. ', nullif(l.state ->> 'detail', ''), nullif(l.state ->> 'nextStep', '')), 4000) into reason
  from jsonb_each(seen.layers::jsonb) l (name, state) where l.state ->> 'state' = 'failed'
  order by array_position(array['image', 'container', 'handshake', 'tools'], l.name) limit 1;
  update public.server_generations g set failure = nullif(reason, ''), failure_log = seen.log_tail
  where g.server_id = server and g.generation = failed;
  insert into public.server_generations (server_id, workspace_id, generation, config, rolled_back_to)
  values (server, of_server.workspace_id, failed + 1, last_good.config,
    coalesce(last_good.rolled_back_to, last_good.generation));
  update public.servers set generation = failed + 1 where id = server;
  insert into public.events (workspace_id, server_id, layer, level, message)
  values (of_server.workspace_id, server, 'request', 'warning',
    left(format('Generation %s did not get ready, so the settings of generation %s are back', failed,
      coalesce(last_good.rolled_back_to, last_good.generation)) || coalesce('. ' || nullif(reason, ''), ''), 2000));
  return failed + 1;
end $$;

-- ── Verified ────────────────────────────────────────────────────────────────────────────────────

alter table public.catalog_entries
  -- What would run is named exactly: by version, digest or commit.
  add column is_pinned boolean generated always as (
    coalesce(entry #>> '{package,registry}' in ('npm', 'pypi', 'nuget', 'oci', 'source'), false)
  ) stored;

-- The official registry takes an entry of a name only from whoever proved to own the name's domain or account, and
-- of a package only if the package names the entry back.
create function mooring.is_official_registry(kind text, url text) returns boolean
language sql immutable set search_path = '' as $$
  select kind = 'registry' and url ~ '^https://registry\.modelcontextprotocol\.io(/|$)'
$$;

revoke all on function mooring.is_official_registry from public;
grant execute on function mooring.is_official_registry to authenticated;

drop index public.catalog_entries_facets;
create index catalog_entries_facets on public.catalog_entries
  (workspace_id, category, runtime, source, needs_secret, uses_network, deployable, is_pinned, source_id, id);

-- mooring.search_catalog learns of it in 20261125003330.
