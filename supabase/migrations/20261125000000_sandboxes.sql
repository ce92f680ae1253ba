-- In what a server's container runs, as its toolbox sees it.

alter table public.observations
  -- Sandbox of dtma/protocol.ts; null: on the host's kernel.
  add column sandbox jsonb,
  -- Why it is not in the sandbox that the toolbox has.
  add column unsandboxed text;
