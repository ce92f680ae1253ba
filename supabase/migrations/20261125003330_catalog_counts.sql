-- The marketplace's first page counted all entries each time, and a search read what it found twice and
-- ranked all of it. Now entries are counted as they are written, and what is found is read once.

create table mooring.catalog_counts (
  -- Null: of the built-in catalog.
  workspace_id uuid,
  category text,
  runtime text,
  source text,
  source_id uuid,
  needs_secret boolean,
  uses_network boolean,
  deployable boolean,
  is_pinned boolean,
  entries integer not null,
  unique nulls not distinct (workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned)
);
alter table mooring.catalog_counts enable row level security;
alter table mooring.catalog_counts force row level security;

insert into mooring.catalog_counts
select workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned, count(*)
from public.catalog_entries group by 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- For each statement: a sync that only saw what it knew changes nothing.
create function mooring.count_catalog_entries() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    insert into mooring.catalog_counts as c
    select workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned, count(*)
    from added group by 1, 2, 3, 4, 5, 6, 7, 8, 9 order by 1, 2, 3, 4, 5, 6, 7, 8, 9
    on conflict (workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned)
      do update set entries = c.entries + excluded.entries;
  elsif tg_op = 'DELETE' then
    insert into mooring.catalog_counts as c
    select workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned, -count(*)
    from gone group by 1, 2, 3, 4, 5, 6, 7, 8, 9 order by 1, 2, 3, 4, 5, 6, 7, 8, 9
    on conflict (workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned)
      do update set entries = c.entries + excluded.entries;
    delete from mooring.catalog_counts c where c.entries = 0
      and exists (select from gone g where g.workspace_id is not distinct from c.workspace_id);
  else
    insert into mooring.catalog_counts as c
    select workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned, sum(n)
    from (
      select workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned, 1 as n from added
      union all
      select workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned, -1 from gone) changed
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9 having sum(n) <> 0 order by 1, 2, 3, 4, 5, 6, 7, 8, 9
    on conflict (workspace_id, category, runtime, source, source_id, needs_secret, uses_network, deployable, is_pinned)
      do update set entries = c.entries + excluded.entries;
  end if;
  return null;
end $$;
create trigger count_added after insert on public.catalog_entries
  referencing new table as added for each statement execute function mooring.count_catalog_entries();
create trigger count_gone after delete on public.catalog_entries
  referencing old table as gone for each statement execute function mooring.count_catalog_entries();
create trigger count_changed after update on public.catalog_entries
  referencing new table as added old table as gone for each statement execute function mooring.count_catalog_entries();

-- As before, and with `verified` among what is found by: deployable, and either pinned and of a catalog that
-- checked whose package it is, or ready here once as it is now. What is found: groups, how many entries there are of each combination of what is filtered by; and
-- ids, those of the page that is asked. Words are letters and digits alone, the last one a beginning.
drop function mooring.search_catalog;
create function mooring.search_catalog(in_workspace uuid, words text[], of_category text, of_runtime text,
  of_source text, secrets boolean, network boolean, is_deployable boolean, is_verified boolean, sorted_by text,
  page_size integer, page_offset integer) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  -- Of more, how often a description has a word says little, and to work it out takes longer than all else.
  ranked_most constant integer := 1000;
  scopes uuid[] := array(select w from mooring.workspaces_as('viewer') w where in_workspace is null or w = in_workspace);
  official uuid[] := array(select s.id from public.catalog_sources s
    where s.workspace_id = any (scopes) and mooring.is_official_registry(s.kind, s.url));
  proven uuid[] := array(select p.entry_id from public.catalog_proofs p
    join public.catalog_entries e on e.id = p.entry_id and e.entry -> 'package' = p.package
    where p.workspace_id = any (scopes));
  -- Of a catalog that checked whose package it is; or ready here once as it is now.
  of_checked text := format('(is_pinned and (source_id is null or source_id = any (%L::uuid[])))', official);
  verified text := format('(deployable and (%s or id = any (%L::uuid[])))', of_checked, proven);
  asked tsquery := ''::tsquery;
  chosen text := 'true';
  by_title text := '';
  sorting text := '';
  term text;
  found jsonb;
  ids uuid[];
begin
  for i in 1 .. least(coalesce(cardinality(words), 0), 12) loop
    -- A word that English texts are not indexed by ("the") asks nothing, unless it is being typed.
    if i < cardinality(words) and numnode(to_tsquery('english', words[i])) = 0 then continue; end if;
    -- Each word as it is (names) or by its stem (descriptions); the last one also as a beginning.
    term := words[i] || case when i = cardinality(words) then ':*' else '' end;
    asked := asked && (to_tsquery('simple', term) || to_tsquery('english', term));
    by_title := by_title || format(' + (title_lower like %L)::int', '%' || words[i] || '%');
  end loop;
  if of_category <> '' then chosen := chosen || ' and category = $3'; end if;
  if of_runtime <> '' then chosen := chosen || ' and runtime = $4'; end if;
  if of_source <> '' then chosen := chosen || ' and source = $5'; end if;
  if secrets is not null then chosen := chosen || ' and needs_secret = $6'; end if;
  if network is not null then chosen := chosen || ' and uses_network = $7'; end if;
  if is_deployable is not null then chosen := chosen || ' and deployable = $8'; end if;
  if is_verified is not null then chosen := chosen || ' and verified = $12'; end if;
  if sorted_by = 'updated' then sorting := 'updated_at desc, '; end if;

  if coalesce(cardinality(words), 0) = 0 then
    -- What ran here is verified whatever its catalog checked: those few are counted on the other side.
    execute 'select jsonb_build_object(
        ''groups'', (select coalesce(jsonb_agg(g), ''[]'') from (
          select category, runtime, source, needs_secret as secrets, uses_network as network, deployable, verified,
            sum(n)::int as count
          from (
            select category, runtime, source, needs_secret, uses_network, deployable,
              deployable and ' || of_checked || ' as verified, entries as n
            from mooring.catalog_counts where workspace_id is null or workspace_id = any ($1)
            union all
            select category, runtime, source, needs_secret, uses_network, deployable, side.verified, side.n
            from public.catalog_entries cross join (values (false, -1), (true, 1)) side (verified, n)
            where id = any ($13) and (workspace_id is null or workspace_id = any ($1))
              and deployable and not ' || of_checked || ') counted
          group by 1, 2, 3, 4, 5, 6, 7 having sum(n) > 0) g),
        ''ids'', (select coalesce(jsonb_agg(p.id order by p.place), ''[]'') from (
          select id, row_number() over () as place from (
            select id from public.catalog_entries
            where (workspace_id is null or workspace_id = any ($1)) and ' || replace(chosen, 'verified =', verified || ' =') || '
            order by ' || sorting || 'lower(title), id limit $9 offset $10) o) p))'
      into found using scopes, asked, of_category, of_runtime, of_source, secrets, network, is_deployable,
        least(page_size, 200), page_offset, ranked_most, is_verified, proven;
    return found;
  end if;

  if sorted_by = 'best' and cardinality(words) = 1 and length(words[1]) <= 2 then
    -- The first letters typed: nearly everything has them somewhere.
    sorting := format('title_lower like %L desc, ', words[1] || '%');
  elsif sorted_by = 'best' then
    -- Whoever types a name means that one, and not what has the name in its title besides.
    sorting := format('title_lower = %L desc, (0%s) desc, ', array_to_string(words, ' '), by_title);
  end if;
  execute 'with m as materialized (
      select id, category, runtime, source, needs_secret, uses_network, deployable, updated_at,
        lower(title) as title_lower, ' || verified || ' as verified
      from public.catalog_entries where (workspace_id is null or workspace_id = any ($1)) and search @@ $2
    ), page as (
      select id, row_number() over () as place from (
        select id from m where ' || chosen || ' order by ' || sorting || 'title_lower, id limit $9 offset $10) o
    )
    select jsonb_build_object(
      ''groups'', (select coalesce(jsonb_agg(g), ''[]'') from (
        select category, runtime, source, needs_secret as secrets, uses_network as network, deployable, verified,
          count(*)::int as count
        from m group by 1, 2, 3, 4, 5, 6, 7) g),
      ''ids'', (select coalesce(jsonb_agg(p.id order by p.place), ''[]'') from page p)),
      (select array_agg(id) from (select id from m where ' || chosen || ' limit $11 + 1) few)'
    into found, ids using scopes, asked, of_category, of_runtime, of_source, secrets, network, is_deployable,
      least(page_size, 200), page_offset, ranked_most, is_verified;
  if sorted_by <> 'best' or (cardinality(words) = 1 and length(words[1]) <= 2)
    or coalesce(cardinality(ids), 0) not between 1 and ranked_most then
    return found;
  end if;
  return jsonb_set(found, '{ids}', (
    select coalesce(jsonb_agg(p.id order by p.place), '[]') from (
      select o.id, row_number() over () as place from (
        select e.id from public.catalog_entries e where e.id = any (ids)
        order by lower(e.title) = array_to_string(words, ' ') desc, ts_rank(e.search, asked) desc, lower(e.title), e.id
        limit least(page_size, 200) offset page_offset) o) p));
end $$;
revoke all on function mooring.count_catalog_entries from public;
revoke all on function mooring.search_catalog from public;
grant execute on function mooring.search_catalog to authenticated;
