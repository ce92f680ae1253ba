-- Takes back what a Supabase project grants by default on each new thing in public, where it was
-- forgotten: on two tables all of it, TRUNCATE too, which no policy is asked about (rows were safe from
-- the API, which has no TRUNCATE), and the count of everybody's events.
revoke all on public.mcp_sessions, public.trial_runs from public, anon, authenticated;
revoke all on sequence public.events_id_seq from public, anon, authenticated;

grant select, insert, delete on public.trial_runs to authenticated;
grant update (arguments, outcome, state, progress, questions, refused, answers, cancel_asked, is_error, duration_ms,
  seen_at, ended_at) on public.trial_runs to authenticated;
