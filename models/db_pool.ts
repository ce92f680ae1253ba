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
 * or wait for ever, and one that is asked of a lost transaction is written to the socket that is gone, which
 * ends the process. So each connection has a postgres.js of its own, which ends with it and refuses all.
 */
class Connection {
  readonly #open: Open;
  #sql: postgres.Sql;
  #reject: ((error: Error) => void) | null = null;
  #losses = 0;
  #isEnded = false;

  constructor(open: Open) {
    this.#open = open;
    this.#sql = this.#make();
  }

  /** Does one thing, and rejects when the connection is lost meanwhile. */
  async use<T>(work: (sql: postgres.Sql) => PromiseLike<T>): Promise<T> {
    if (this.#losses > 0) await new Promise((resolve) => setTimeout(resolve, pause(this.#losses)));
    try {
      const result = await new Promise<T>((resolve, reject) => {
        this.#reject = reject;
        work(this.#sql).then(resolve, reject);
      });
      this.#losses = 0;
      return result;
    } finally {
      this.#reject = null;
    }
  }

  async end(): Promise<void> {
    this.#isEnded = true;
    await this.#sql.end({ timeout: 5 });
  }

  #make(): postgres.Sql {
    const sql = this.#open(() => {
      if (this.#isEnded || sql !== this.#sql) return;
      sql.end();
      this.#sql = this.#make();
      this.#losses++;
      this.#reject?.(
        Object.assign(new Error("The connection to the database was lost"), {
          code: "CONNECTION_CLOSED",
        }),
      );
    });
    return sql;
  }
}

/**
 * Milliseconds to wait after so many losses in a row, so that a database that is away is back within a
 * second of its return and not asked all the time.
 */
function pause(losses: number): number {
  return (500 + Math.random() * 500) * Math.min(3 ** losses / 100, 1);
}
