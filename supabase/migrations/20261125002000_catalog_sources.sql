-- Where a workspace's catalog comes from beside the built-in one: sources, what their last syncs came
-- to, each entry's raw text and history, and what could not be read at all.
--
-- People add sources and ask for syncs; the app itself works them off (the functions at the end, none
-- of them granted to a person), one run a source at a time, each step in a short transaction.

-- For typos in searches (the next migration). On Supabase it is there already, in another schema of the search path.
create extension if not exists pg_trgm;

create table public.catalog_sources (
  id uuid primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  -- Before the two dashes in its entries' slugs.
  slug text not null check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(slug) <= 20),
  name text not null check (length(name) between 1 and 80),
  -- registry: the official registry's API. url: a file or an archive. upload, written: documents.
  kind text not null check (kind in ('registry', 'url', 'upload', 'written')),
  url text check (length(url) <= 2000),
  -- Null: on demand alone.
  sync_every_minutes integer check (sync_every_minutes between 15 and 43200),
  -- Set when a sync is wanted, now or at its time; what is due is worked off by whichever replica comes.
  next_sync_at timestamptz,
  sync_number integer not null default 0,
  -- What a run that was cut off goes on from, and what the next one needs (cursor, updated_since, ETag).
  state jsonb not null default '{}',
  -- Who works on it; another may once the time is over. Each write of a run names its lease.
  lease uuid,
  leased_until timestamptz,
  last_sync jsonb,
  created_by uuid,
  created_at timestamptz not null default now(),
  unique (id, workspace_id),
  unique (workspace_id, slug),
  check ((kind in ('registry', 'url')) = (url is not null))
);
create index on public.catalog_sources (next_sync_at) where next_sync_at is not null;

-- What was uploaded or written by hand: the truth of such sources.
create table public.catalog_documents (
  source_id uuid not null,
  workspace_id uuid not null,
  path text not null check (length(path) between 1 and 300),
  body text not null check (length(body) <= 4000000),
  updated_at timestamptz not null default now(),
  primary key (source_id, path),
  foreign key (source_id, workspace_id) references public.catalog_sources (id, workspace_id) on delete cascade
);

alter table public.catalog_entries
  add column source_id uuid,
  -- As its source calls it, the same from sync to sync.
  add column name text,
  add column version text,
  -- Of its raw text.
  add column hash text,
  -- Why it cannot be deployed here; null: it can.
  add column obstacle text,
  -- What a person should know before deploying it.
  add column notes text[] not null default '{}',
  -- Tags and tools, for searches.
  add column keywords text not null default '',
  add column tools jsonb not null default '[]',
  add column published_at timestamptz,
  add column is_latest boolean not null default true,
  -- The last sync that saw it.
  add column seen_in integer,
  add column deployable boolean generated always as (obstacle is null) stored,
  add column title text generated always as (entry ->> 'title') stored,
  add column category text generated always as (entry ->> 'category') stored,
  add column runtime text generated always as (
    case entry #>> '{package,registry}' when 'image' then 'oci' else entry #>> '{package,registry}' end
  ) stored,
  add column needs_secret boolean generated always as (
    jsonb_path_exists(entry, '$.environment[*] ? (@.isSecret == true && @.isRequired == true)')
    or jsonb_path_exists(entry, '$.arguments[*] ? (@.isSecret == true && @.isRequired == true)')
    or jsonb_path_exists(entry, '$.*[*].variables.* ? (@.isSecret == true && @.isRequired == true)')
  ) stored,
  add column uses_network boolean generated always as (
    entry #>> '{package,registry}' = 'remote' or jsonb_path_exists(entry, '$.network.hosts[0]')
  ) stored,
  add foreign key (source_id, workspace_id) references public.catalog_sources (id, workspace_id) on delete cascade,
  add check (source_id is null or workspace_id is not null),
  add check ((source_id is null) or (name is not null and version is not null and hash is not null)),
  add unique (source_id, name);

alter table public.catalog_entries drop column search;
alter table public.catalog_entries
  add column search tsvector generated always as (
    setweight(to_tsvector('simple', coalesce(entry ->> 'title', '')), 'A') ||
    setweight(to_tsvector('english', coalesce(entry ->> 'summary', '')), 'B') ||
    setweight(to_tsvector('simple', translate(
      coalesce(entry #>> '{package,name}', entry #>> '{package,image}', entry #>> '{package,location}',
        entry #>> '{package,url}', '') || ' ' || coalesce(name, ''),
      '@/-_.:', '      ')), 'B') ||
    setweight(to_tsvector('english', coalesce(entry ->> 'category', '') || ' ' || keywords), 'C') ||
    setweight(to_tsvector('english', coalesce(entry ->> 'description', '')), 'D')
  ) stored;
create index on public.catalog_entries using gin (search);
create index on public.catalog_entries (lower(title), id);
create index on public.catalog_entries (updated_at desc, id);
create index on public.catalog_entries (workspace_id, slug);

-- Every version that was seen, with its text as the source has it.
create table public.catalog_entry_versions (
  entry_id uuid not null references public.catalog_entries (id) on delete cascade,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  hash text not null,
  version text not null,
  entry jsonb not null,
  obstacle text,
  raw text not null,
  published_at timestamptz,
  first_seen_at timestamptz not null default now(),
  primary key (entry_id, hash)
);

-- What is no entry at all: where it stands in its source, and why.
create table public.catalog_broken_entries (
  source_id uuid not null,
  workspace_id uuid not null,
  place text not null,
  reason text not null,
  raw text not null,
  seen_in integer not null,
  seen_at timestamptz not null default now(),
  primary key (source_id, place),
  foreign key (source_id, workspace_id) references public.catalog_sources (id, workspace_id) on delete cascade
);

-- ── Policies ────────────────────────────────────────────────────────────────────────────────────

do $$
declare t text;
begin
  foreach t in array array['catalog_sources', 'catalog_documents', 'catalog_entry_versions',
    'catalog_broken_entries'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', t);
    execute format('alter table public.%I enable row level security', t);
    execute format('alter table public.%I force row level security', t);
    execute format('grant select on public.%I to authenticated', t);
    execute format('create policy person_reads on public.%I for select to authenticated
      using (workspace_id in (select mooring.workspaces_as(''viewer'')))', t);
  end loop;
end $$;

grant insert (id, workspace_id, slug, name, kind, url, sync_every_minutes, next_sync_at, created_by),
  update (name, sync_every_minutes, next_sync_at), delete on public.catalog_sources to authenticated;
create policy admin_inserts on public.catalog_sources for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('admin')) and coalesce(created_by, auth.uid()) = auth.uid());
create policy admin_updates on public.catalog_sources for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')))
  with check (workspace_id in (select mooring.workspaces_as('admin')));
create policy admin_deletes on public.catalog_sources for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')));

grant insert, update (body, updated_at), delete on public.catalog_documents to authenticated;
create policy admin_inserts on public.catalog_documents for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('admin')));
create policy admin_updates on public.catalog_documents for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')))
  with check (workspace_id in (select mooring.workspaces_as('admin')));
create policy admin_deletes on public.catalog_documents for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')));

-- ── What follows a change ───────────────────────────────────────────────────────────────────────

create function mooring.wake_for_source() returns trigger language plpgsql security definer set search_path = '' as $$
declare changed record;
begin
  if tg_op = 'DELETE' then changed := old; else changed := new; end if;
  perform pg_notify('mooring', json_build_object('table', 'catalog_sources', 'workspace', changed.workspace_id,
    'server', null, 'toolbox', null, 'agent', null)::text);
  return null;
end $$;
create trigger wake after insert or update or delete on public.catalog_sources
  for each row execute function mooring.wake_for_source();

-- ── What the app does as itself ─────────────────────────────────────────────────────────────────

-- Takes a source that is due, or the given one if it is, for so many seconds; no row when there is none. A run
-- that was cut off is gone on with, under its own number.
create function mooring.claim_catalog_source(wanted uuid, new_lease uuid, seconds integer)
returns table (id uuid, workspace_id uuid, slug text, kind text, url text, state jsonb, sync_number integer)
language sql security definer set search_path = '' as $$
  update public.catalog_sources s
  set lease = new_lease, leased_until = now() + make_interval(secs => seconds),
    sync_number = s.sync_number + case when s.state ? 'run' then 0 else 1 end,
    state = case when s.state ? 'run' then s.state
      else s.state || jsonb_build_object('run', jsonb_build_object('startedAt', now())) end
  where s.id = (
    select c.id from public.catalog_sources c
    where c.next_sync_at <= now() and (wanted is null or c.id = wanted)
      and (c.leased_until is null or c.leased_until < now())
    order by c.next_sync_at limit 1 for update skip locked)
  returning s.id, s.workspace_id, s.slug, s.kind, s.url, s.state, s.sync_number
$$;

create function mooring.catalog_documents_of(wanted uuid, held uuid) returns table (path text, body text)
language sql stable security definer set search_path = '' as $$
  select d.path, d.body from public.catalog_documents d
  join public.catalog_sources s on s.id = d.source_id and s.lease = held
  where d.source_id = wanted order by d.path
$$;

-- Writes a step of a run: entries, what is broken, and where the run stands. Null when the lease was lost.
-- Of an entry with several versions the latest one is shown, and all are kept.
create function mooring.put_catalog_entries(wanted uuid, held uuid, batch jsonb, broken jsonb, at_state jsonb,
  seconds integer) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  s public.catalog_sources;
  item jsonb;
  found_entry record;
  entry_slug text;
  target uuid;
  added integer := 0;
  changed integer := 0;
  removed integer := 0;
begin
  update public.catalog_sources c
  set state = at_state, leased_until = now() + make_interval(secs => seconds)
  where c.id = wanted and c.lease = held returning * into s;
  if not found then return null; end if;
  for item in select * from jsonb_array_elements(batch) loop
    select e.id, e.hash, e.is_latest, e.published_at into found_entry
    from public.catalog_entries e where e.source_id = wanted and e.name = item ->> 'name';
    if (item ->> 'isDeleted')::boolean then
      delete from public.catalog_entries e
      where e.id = found_entry.id and ((item ->> 'isLatest')::boolean or e.version = item ->> 'version');
      if found then removed := removed + 1; end if;
      continue;
    end if;
    target := found_entry.id;
    if target is null then
      entry_slug := item ->> 'slug';
      -- Two names that are written alike: the later one is told apart by its hash.
      if exists (select from public.catalog_entries e where e.workspace_id = s.workspace_id and e.slug = entry_slug) then
        entry_slug := rtrim(left(entry_slug, 50), '-') || '-' || left(encode(sha256(convert_to(item ->> 'name', 'UTF8')), 'hex'), 12);
      end if;
      target := gen_random_uuid();
      insert into public.catalog_entries (id, workspace_id, source_id, source, slug, name, version, hash, entry,
        obstacle, notes, keywords, tools, published_at, is_latest, seen_in)
      values (target, s.workspace_id, wanted, s.slug, entry_slug, item ->> 'name', item ->> 'version', item ->> 'hash',
        jsonb_set(item -> 'entry', '{slug}', to_jsonb(entry_slug)), item ->> 'obstacle',
        array(select jsonb_array_elements_text(item -> 'notes')), item ->> 'keywords', item -> 'tools',
        (item ->> 'publishedAt')::timestamptz, (item ->> 'isLatest')::boolean, s.sync_number);
      added := added + 1;
    elsif (item ->> 'isLatest')::boolean or (not found_entry.is_latest
      and coalesce((item ->> 'publishedAt')::timestamptz, '-infinity') >= coalesce(found_entry.published_at, '-infinity')) then
      update public.catalog_entries e
      set version = item ->> 'version', hash = item ->> 'hash',
        entry = jsonb_set(item -> 'entry', '{slug}', to_jsonb(e.slug)), obstacle = item ->> 'obstacle',
        notes = array(select jsonb_array_elements_text(item -> 'notes')), keywords = item ->> 'keywords',
        tools = item -> 'tools', published_at = (item ->> 'publishedAt')::timestamptz,
        is_latest = (item ->> 'isLatest')::boolean, seen_in = s.sync_number, updated_at = now()
      where e.id = target and (e.hash, e.is_latest) is distinct from (item ->> 'hash', (item ->> 'isLatest')::boolean);
      if found then
        changed := changed + case when found_entry.hash <> item ->> 'hash' then 1 else 0 end;
      else
        update public.catalog_entries e set seen_in = s.sync_number where e.id = target and e.seen_in <> s.sync_number;
      end if;
    else
      update public.catalog_entries e set seen_in = s.sync_number where e.id = target and e.seen_in <> s.sync_number;
    end if;
    insert into public.catalog_entry_versions (entry_id, workspace_id, hash, version, entry, obstacle, raw, published_at)
    values (target, s.workspace_id, item ->> 'hash', item ->> 'version', item -> 'entry', item ->> 'obstacle',
      item ->> 'raw', (item ->> 'publishedAt')::timestamptz)
    on conflict do nothing;
    if found then
      -- A source that says something else each time fills no disk.
      delete from public.catalog_entry_versions v where v.entry_id = target and v.hash in (
        select o.hash from public.catalog_entry_versions o where o.entry_id = target
          and o.hash <> (select e.hash from public.catalog_entries e where e.id = target)
        order by coalesce(o.published_at, o.first_seen_at) desc, o.hash offset 50);
    end if;
  end loop;
  insert into public.catalog_broken_entries (source_id, workspace_id, place, reason, raw, seen_in)
  select wanted, s.workspace_id, b ->> 'place', b ->> 'reason', b ->> 'raw', s.sync_number
  from jsonb_array_elements(broken) b
  -- Nobody reads more, and a hostile source has no end.
  where (select count(*) from public.catalog_broken_entries c where c.source_id = wanted) < 1000
  on conflict (source_id, place) do update
    set reason = excluded.reason, raw = excluded.raw, seen_in = excluded.seen_in, seen_at = now();
  return jsonb_build_object('added', added, 'changed', changed, 'removed', removed);
end $$;

-- Ends a run. One that saw all there is takes away what it did not see. False when the lease was lost.
create function mooring.end_catalog_sync(wanted uuid, held uuid, outcome jsonb, at_state jsonb, saw_all boolean,
  retry_seconds integer) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  s public.catalog_sources;
  removed integer := 0;
begin
  select * into s from public.catalog_sources c where c.id = wanted and c.lease = held for update;
  if not found then return null; end if;
  if saw_all then
    delete from public.catalog_entries e where e.source_id = wanted and e.seen_in <> s.sync_number;
    get diagnostics removed = row_count;
    delete from public.catalog_broken_entries b where b.source_id = wanted and b.seen_in <> s.sync_number;
  end if;
  update public.catalog_sources c
  set lease = null, leased_until = null, state = at_state,
    -- None of a run that is only put down for a while.
    last_sync = case when outcome is null then c.last_sync else outcome || jsonb_build_object('at', now(), 'removed', coalesce((outcome ->> 'removed')::integer, 0) + removed) end,
    next_sync_at = case
      when retry_seconds is not null then now() + make_interval(secs => retry_seconds)
      when c.sync_every_minutes is not null then now() + make_interval(mins => c.sync_every_minutes) end
  where c.id = wanted;
  return jsonb_build_object('removed', removed);
end $$;

do $$
declare f text;
begin
  foreach f in array array['wake_for_source', 'claim_catalog_source', 'catalog_documents_of', 'put_catalog_entries',
    'end_catalog_sync'] loop
    execute format('revoke all on function mooring.%I from public', f);
  end loop;
end $$;
grant execute on function mooring.claim_catalog_source, mooring.catalog_documents_of, mooring.put_catalog_entries,
  mooring.end_catalog_sync to mooring_app;
