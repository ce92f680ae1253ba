-- As it was, but one at a time for each workspace, and by what is there once it is its turn. Two syncs at once wrote
-- words in whatever order their plans gave, each waiting for the other's; and one that had looked before the other's
-- entries came took away a word that those have.
create or replace function mooring.refresh_catalog_words(of_workspace uuid) returns void
language sql security definer set search_path = '' as $$
  select pg_advisory_xact_lock(hashtextextended(coalesce(of_workspace::text, ''), 4));
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
