-- Two changes of one function came together: 20261125003330 made the signature of before 20261125003000 anew,
-- which nothing calls, and which anybody could.
drop function if exists mooring.search_catalog(uuid, text[], text, text, text, boolean, boolean, boolean, text,
  integer, integer);
