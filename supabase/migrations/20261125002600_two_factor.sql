-- A second factor for the accounts that better-auth keeps: what its plugin writes. A Supabase project
-- keeps its own accounts, and factors with them.
do $$ begin
  if to_regclass('auth.accounts') is null then return; end if;

  alter table auth.users add column "twoFactorEnabled" boolean not null default false;
  create table auth.two_factors (
    id uuid primary key,
    "userId" uuid not null references auth.users (id) on delete cascade,
    -- Both encrypted with the app's secret, which is outside the database.
    secret text not null,
    "backupCodes" text not null,
    verified boolean not null default true,
    "failedVerificationCount" integer not null default 0,
    "lockedUntil" timestamptz
  );
  create index on auth.two_factors ("userId");
  grant select, insert, update, delete on auth.two_factors to mooring_app;
end $$;
