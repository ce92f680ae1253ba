-- Searches of the marketplace, as their definer: under a policy Postgres uses no index for @@ and %>, which
-- are not leakproof, and reads every entry for each letter typed. Whose entries a person may see is asked
-- here, first; the entries themselves are then read under the policy.

-- Big values out of the rows that are counted; what is matched and ranked stays in them.
alter table public.catalog_entries set (toast_tuple_target = 256);
alter table public.catalog_entries alter column entry set storage external;
alter table public.catalog_entries alter column search set storage main;
alter table public.catalog_entries alter column names set storage main;

-- For counts: an index that holds all that is counted.
create index catalog_entries_facets on public.catalog_entries
  (workspace_id, category, runtime, source, needs_secret, uses_network, deployable);

-- What is found: groups, how many entries there are of each combination of what is filtered by; and ids, those
-- of the page that is asked. Words are letters and digits alone, the last one a beginning.
--
-- is_loose: entries with names that are alike (pg_trgm) to a word too, most words first.
create function mooring.search_catalog(in_workspace uuid, words text[], is_loose boolean, of_category text,
  of_runtime text, of_source text, secrets boolean, network boolean, is_deployable boolean, sorted_by text,
  page_size integer, page_offset integer) returns jsonb
language plpgsql stable security definer set search_path = public, extensions, pg_temp
set pg_trgm.word_similarity_threshold = 0.42 as $$
declare
  scopes uuid[] := array(select w from mooring.workspaces_as('viewer') w where in_workspace is null or w = in_workspace);
  asked tsquery := ''::tsquery;
  parts text[] := '{}';
  matches text := '';
  chosen text := '';
  sorting text := '';
  found_groups jsonb;
  found_ids jsonb;
begin
  words := words[1:12];
  for i in 1 .. coalesce(cardinality(words), 0) loop
    -- A word that English texts are not indexed by ("the") asks nothing, unless it is being typed.
    if i < cardinality(words) and numnode(to_tsquery('english', words[i])) = 0 then continue; end if;
    asked := asked && (to_tsquery('simple', words[i] || case when i = cardinality(words) then ':*' else '' end)
      || to_tsquery('english', words[i] || case when i = cardinality(words) then ':*' else '' end));
    -- A short word has too few letters to be like another.
    parts := parts || case when length(words[i]) >= 4
      then format('(search @@ to_tsquery(''simple'', %1$L) or names %%> %1$L)', words[i])
      else format('(search @@ to_tsquery(''simple'', %L))', words[i]) end;
  end loop;
  if cardinality(words) > 0 then
    matches := case when is_loose then format(' and (%s)', array_to_string(parts, ' or ')) else ' and search @@ $2' end;
  end if;
  if of_category <> '' then chosen := chosen || ' and category = $3'; end if;
  if of_runtime <> '' then chosen := chosen || ' and runtime = $4'; end if;
  if of_source <> '' then chosen := chosen || ' and source = $5'; end if;
  if secrets is not null then chosen := chosen || ' and needs_secret = $6'; end if;
  if network is not null then chosen := chosen || ' and uses_network = $7'; end if;
  if is_deployable is not null then chosen := chosen || ' and deployable = $8'; end if;
  if sorted_by = 'updated' then
    sorting := 'updated_at desc, ';
  elsif sorted_by = 'best' and cardinality(words) > 0 then
    sorting := case when is_loose then format('%s desc, word_similarity(%L, names) desc, ',
        array_to_string(array(select format('coalesce(%s, false)::int', p) from unnest(parts) p), ' + '), array_to_string(words, ' '))
      else 'ts_rank(search, $2) desc, ' end;
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
revoke all on function mooring.search_catalog from public;
grant execute on function mooring.search_catalog to authenticated;
