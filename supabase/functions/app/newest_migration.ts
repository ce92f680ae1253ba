/**
 * The newest file of supabase/migrations, which a function cannot read. Tests hold it to that
 * (tests/supabase/edge_config_test.ts).
 */
export const NEWEST_MIGRATION = "20261125005100";
