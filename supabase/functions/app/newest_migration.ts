/**
 * The newest file of supabase/migrations, which a function cannot read. Tests hold it to that
 * (tests/supabase/function_test.ts).
 */
export const NEWEST_MIGRATION = "20261127000610";
