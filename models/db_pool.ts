import postgres from "postgres";

/** A transaction's handle; queries are tagged templates. */
export type Sql = postgres.ISql;

/** What the app asks as itself, on whichever connection of the pool is free. */
export interface AppSql {
  <T extends readonly (object | undefined)[] = postgres.Row[]>(
    template: TemplateStringsArray,
    ...parameters: readonly postgres.ParameterOrFragment<never>[]
  ): Promise<postgres.RowList<T>>;
  json: postgres.Sql["json"];
  /** A query that is made elsewhere: its text holds nothing that came from outside. */
  unsafe(
    ...query: Parameters<postgres.Sql["unsafe"]>
  ): Promise<postgres.RowList<(postgres.Row & Iterable<postgres.Row>)[]>>;
  /** Commits when the work resolves, and rolls back when it rejects or one of its queries failed. */
  begin<T>(work: (sql: Sql) => Promise<T>): Promise<T>;
}

/** Makes a postgres.js of one connection, which it opens at its first query. */
type Open = (onclose: () => void) => postgres.Sql;

/**
 * A pool whose connections each do one thing at a time: a query, or a transaction.
 *
 * postgres.js's own pool (3.4.9) sends queries behind others whose answers are not there yet. A BEGIN that
 * is the last to be sent so (the hundredth, or the one that fills the socket) goes out on a connection that
 * is not kept for its transaction: other queries then run within it, and the process ends by a rejection
 * that nobody can catch (porsager/postgres#1189 and #823). And Supavisor, in transaction mode, gives the
 * answers to such queries to nobody, or to another (porsager/postgres#970, supabase/supabase#50358).
 */
export class DbPool {
  readonly #open: Open;
  readonly #max: number;
  readonly #all: Connection[];
  readonly #free: Connection[];
  readonly #waiting: ((connection: Connection) => void)[] = [];
  #knowsTypes = false;
  #isClosed = false;
  readonly asApp: AppSql;

  /**
   * @param like a postgres.js of one connection, whose options the pool's own have
   * @param max how many connections
   */
  constructor(like: postgres.Sql, max: number) {
    // postgres.js asks each new connection for the array types, and a loss amid that ends the process. So
    // only the first is asked, and nothing else is done meanwhile; all share what it learns.
    this.#open = (onclose) =>
      postgres({ ...like.options as object, fetch_types: !this.#knowsTypes, onclose });
    this.#max = max;
    this.#all = [new Connection(this.#open)];
    this.#free = [...this.#all];
    this.asApp = Object.assign(
      <T extends readonly (object | undefined)[]>(
        ...query: [TemplateStringsArray, ...postgres.ParameterOrFragment<never>[]]
      ) => this.#use((sql) => sql<T>(...query)),
      {
        json: like.json,
        unsafe: (...query: Parameters<postgres.Sql["unsafe"]>) =>
          this.#use((sql) => sql.unsafe(...query)),
        begin: <T>(work: (sql: Sql) => Promise<T>) => this.#use((sql) => transaction(sql, work)),
      },
    );
  }

  /** Ends all connections; what is under way has 5 seconds. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#all.map((connection) => connection.end()));
  }

  async #use<T>(work: (sql: postgres.Sql) => PromiseLike<T>): Promise<T> {
    const connection = this.#free.pop() ??
      await new Promise<Connection>((resolve) => this.#waiting.push(resolve));
    try {
      const result = await connection.use(work);
      if (!this.#knowsTypes) this.#openRest();
      return result;
    } finally {
      this.#giveBack(connection);
    }
  }

  #openRest(): void {
    this.#knowsTypes = true;
    while (this.#all.length < this.#max && !this.#isClosed) {
      const connection = new Connection(this.#open);
      this.#all.push(connection);
      this.#giveBack(connection);
    }
  }

  #giveBack(connection: Connection): void {
    const next = this.#waiting.shift();
    if (next) next(connection);
    else this.#free.push(connection);
  }
}

async function transaction<T>(sql: postgres.Sql, work: (sql: Sql) => Promise<T>): Promise<T> {
  await sql.unsafe("begin");
  let result: T;
  try {
    result = await work(sql);
  } catch (error) {
    await sql.unsafe("rollback");
    throw error;
  }
  // What Postgres says to a COMMIT of a transaction in which a query failed.
  const { command } = await sql.unsafe("commit");
  if (command === "ROLLBACK") throw new Error("A query of the transaction failed, so none is done");
  return result;
}

/**
 * A connection, and the next one when it is lost.
 *
 * postgres.js does not forget all of a connection that was lost: its next query may get the old one's error
 * or wait for ever, and what a lost transaction still asks ends the process, or is done outside of it. So each
 * connection has a postgres.js of its own, which ends with it and refuses all.
 */
class Connection {
  readonly #open: Open;
  #sql: postgres.Sql;
  #reject: ((error: Error) => void) | null = null;
  #underWay: Promise<void> = Promise.resolve();
  #losses = 0;
  #tryAtMs = 0;
  #isEnded = false;

  constructor(open: Open) {
    this.#open = open;
    this.#sql = this.#make();
  }

  /** Does one thing, and rejects when the connection is lost meanwhile. */
  async use<T>(work: (sql: postgres.Sql) => PromiseLike<T>): Promise<T> {
    const waitMs = this.#tryAtMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    if (this.#isEnded) throw failed("The connections are closed", "CONNECTION_ENDED");
    const sql = this.#sql, underWay = Promise.withResolvers<void>();
    this.#underWay = underWay.promise;
    try {
      const result = await new Promise<T>((resolve, reject) => {
        this.#reject = reject;
        work(sql).then(resolve, reject);
      });
      this.#losses = 0;
      return result;
    } catch (error) {
      // A query hears of its socket's end some turns before `onclose` does: nobody is to come in between.
      if (isLoss(error)) this.#lose(sql);
      else if (sql === this.#sql) this.#losses = 0;
      throw error;
    } finally {
      this.#reject = null;
      underWay.resolve();
    }
  }

  /** What is under way has 4 seconds; postgres.js, which knows of no transaction, would end it between two queries. */
  async end(): Promise<void> {
    this.#isEnded = true;
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, 4000);
    await Promise.race([this.#underWay, late.promise]);
    clearTimeout(timer);
    await this.#sql.end({ timeout: 1 });
  }

  #make(): postgres.Sql {
    const sql = this.#open(() => this.#lose(sql));
    return sql;
  }

  #lose(sql: postgres.Sql): void {
    if (sql !== this.#sql) return;
    const lost = failed("The connection to the database was lost", "CONNECTION_CLOSED");
    // For a query that waits within it postgres.js would connect anew, though it is ended.
    Object.assign(sql.options, { socket: () => Promise.reject(lost) });
    sql.end({ timeout: 0 });
    if (!this.#isEnded) this.#sql = this.#make();
    this.#tryAtMs = performance.now() + backoffMs(++this.#losses);
    this.#reject?.(lost);
  }
}

/** Whether an error is the end of a connection: its socket's, or one after which Postgres closes it. */
function isLoss(error: unknown): boolean {
  const { code, severity } = (error ?? {}) as { code?: unknown; severity?: unknown };
  return severity === "FATAL" || severity === "PANIC" ||
    typeof code === "string" && /^(E[A-Z_]+|CONNECT_TIMEOUT)$/.test(code);
}

function failed(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}

/**
 * Milliseconds to wait after so many losses in a row, so that a database that is away is back within a
 * second of its return and not asked all the time.
 */
export function backoffMs(losses: number): number {
  return (500 + Math.random() * 500) * Math.min(3 ** losses / 100, 1);
}
