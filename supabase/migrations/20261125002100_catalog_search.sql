-- Searches of the marketplace, as their definer: under a policy Postgres uses no index for @@ and %>, which
-- are not leakproof, and reads every entry for each letter typed. Whose entries a person may see is asked
-- here, first; the entries themselves are then read under the policy.

-- Big values out of the rows that are counted; what is matched and ranked stays in them.
alter table public.catalog_entries set (toast_tuple_target = 256);
alter table public.catalog_entries alter column entry set storage external;
alter table public.catalog_entries alter column search set storage main;

-- For counts: an index that holds all that is counted.
create index catalog_entries_facets on public.catalog_entries
  (workspace_id, category, runtime, source, needs_secret, uses_network, deployable);

-- The words of what is listed, for those that are mistyped: a few thousand, however many entries there are.
create table mooring.catalog_words (
  -- Null: of the built-in catalog.
  workspace_id uuid references public.workspaces (id) on delete cascade,
  word text not null,
  unique nulls not distinct (workspace_id, word)
);
alter table mooring.catalog_words enable row level security;
alter table mooring.catalog_words force row level security;
create index on mooring.catalog_words using gin (word gin_trgm_ops);

-- Makes a workspace's words, or those of the built-in catalog, equal to what its entries have.
create function mooring.refresh_catalog_words(of_workspace uuid) returns void
language sql security definer set search_path = '' as $$
  with present as (
    select distinct w.word from public.catalog_entries e,
      regexp_split_to_table(lower(concat_ws(' ', e.entry ->> 'title', e.entry ->> 'summary', e.name,
        e.entry #>> '{package,name}', e.entry #>> '{package,image}')), '[^[:alpha:]]+') w (word)
    where e.workspace_id is not distinct from of_workspace and length(w.word) between 4 and 30
  ), gone as (
    delete from mooring.catalog_words c
    where c.workspace_id is not distinct from of_workspace and c.word not in (select word from present)
  )
  insert into mooring.catalog_words (workspace_id, word) select of_workspace, word from present
  on conflict do nothing
$$;

-- Words that are written somewhat like the asked ones, each with the most alike first.
create function mooring.catalog_words_like(in_workspace uuid, asked text[])
returns table (asked_word text, word text)
language sql stable security definer set search_path = public, extensions, pg_temp
set pg_trgm.similarity_threshold = 0.18 as $$
  select a.word, l.word from unnest(asked[1:12]) a (word), lateral (
    select c.word from mooring.catalog_words c
    where c.word % a.word and (c.workspace_id is null or c.workspace_id in (
      select w from mooring.workspaces_as('viewer') w where in_workspace is null or w = in_workspace))
    group by c.word order by similarity(c.word, a.word) desc, c.word limit 60) l
$$;

-- What is found: groups, how many entries there are of each combination of what is filtered by; and ids, those
-- of the page that is asked. Words are letters and digits alone, the last one a beginning.
create function mooring.search_catalog(in_workspace uuid, words text[], of_category text, of_runtime text,
  of_source text, secrets boolean, network boolean, is_deployable boolean, sorted_by text, page_size integer,
  page_offset integer) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  scopes uuid[] := array(select w from mooring.workspaces_as('viewer') w where in_workspace is null or w = in_workspace);
  asked tsquery := ''::tsquery;
  matches text := '';
  chosen text := '';
  sorting text := '';
  term text;
  found_groups jsonb;
  found_ids jsonb;
begin
  for i in 1 .. least(coalesce(cardinality(words), 0), 12) loop
    -- A word that English texts are not indexed by ("the") asks nothing, unless it is being typed.
    if i < cardinality(words) and numnode(to_tsquery('english', words[i])) = 0 then continue; end if;
    -- Each word as it is (names) or by its stem (descriptions); the last one also as a beginning.
    term := words[i] || case when i = cardinality(words) then ':*' else '' end;
    asked := asked && (to_tsquery('simple', term) || to_tsquery('english', term));
  end loop;
  if cardinality(words) > 0 then matches := ' and search @@ $2'; end if;
  if of_category <> '' then chosen := chosen || ' and category = $3'; end if;
  if of_runtime <> '' then chosen := chosen || ' and runtime = $4'; end if;
  if of_source <> '' then chosen := chosen || ' and source = $5'; end if;
  if secrets is not null then chosen := chosen || ' and needs_secret = $6'; end if;
  if network is not null then chosen := chosen || ' and uses_network = $7'; end if;
  if is_deployable is not null then chosen := chosen || ' and deployable = $8'; end if;
  if sorted_by = 'updated' then
    sorting := 'updated_at desc, ';
  elsif sorted_by = 'best' and cardinality(words) = 1 and length(words[1]) <= 2 then
    -- The first letters typed: nearly everything has them somewhere, and ranking it all says little.
    sorting := format('lower(title) like %L desc, ', words[1] || '%');
  elsif sorted_by = 'best' and cardinality(words) > 0 then
    -- Whoever types a name means that one, and not what has the name in its title besides.
    sorting := format('lower(title) = %L desc, ts_rank(search, $2) desc, ', array_to_string(words, ' '));
  end if;

  execute 'select coalesce(jsonb_agg(g), ''[]'') from (
      select category, runtime, source, needs_secret as secrets, uses_network as network, deployable, count(*)::int as count
      from public.catalog_entries where (workspace_id is null or workspace_id = any ($1))' || matches || '
      group by category, runtime, source, needs_secret, uses_network, catalog_entries.deployable) g'
    into found_groups using scopes, asked;
  execute 'select coalesce(jsonb_agg(p.id order by p.place), ''[]'') from (
      select id, row_number() over () as place from (
        select id from public.catalog_entries where (workspace_id is null or workspace_id = any ($1))' || matches || chosen || '
        order by ' || sorting || 'lower(title), id limit $9 offset $10) o) p'
    into found_ids
    using scopes, asked, of_category, of_runtime, of_source, secrets, network, is_deployable,
      least(page_size, 200), page_offset;
  return jsonb_build_object('groups', found_groups, 'ids', found_ids);
end $$;
revoke all on function mooring.search_catalog, mooring.catalog_words_like, mooring.refresh_catalog_words from public;
grant execute on function mooring.search_catalog, mooring.catalog_words_like to authenticated;
grant execute on function mooring.refresh_catalog_words to mooring_app;
