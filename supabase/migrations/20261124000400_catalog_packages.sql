-- Catalog entries of every kind of package, and labels that a toolbox has from the start.

-- An image is found by its name and a source tree by its location, as a package is by its name.
alter table public.catalog_entries drop column search;
alter table public.catalog_entries add column search tsvector generated always as (
  setweight(to_tsvector('simple', coalesce(entry ->> 'title', '')), 'A') ||
  setweight(to_tsvector('english', coalesce(entry ->> 'summary', '')), 'B') ||
  setweight(to_tsvector('simple', translate(coalesce(entry #>> '{package,name}',
    entry #>> '{package,image}', entry #>> '{package,location}', ''), '@/-_.:', '      ')), 'B') ||
  setweight(to_tsvector('english', coalesce(entry ->> 'category', '') || ' ' || coalesce(entry ->> 'description', '')), 'C')
) stored;
create index on public.catalog_entries using gin (search);

grant insert (labels) on public.toolboxes to authenticated;
