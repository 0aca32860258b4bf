import { spawn } from 'node:child_process';
import { EngineError } from './error.ts';
import type { EngineUser } from './files.ts';

/** The environment of the engine's programs: nothing of ours, for PG* and LD_* would change what they do. */
const ENGINE_ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/** Runs a program of the package to its end; its words on both streams in the order they came. */
export function run(
  program: string,
  words: string[],
  user: EngineUser | undefined,
): Promise<{ code: number; text: string }> {
  return new Promise((done, failed) => {
    const child = spawn(program, words, { ...asUser(user), stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (text += data));
    child.on('error', (error) => failed(cannotSpawn(program, error)));
    child.on('close', (code, signal) => done({ code: code ?? 1, text: signal ? `${text}\nended by ${signal}` : text }));
  });
}

/** Options for spawn: the user, a folder that everyone can enter, the bare environment. */
export function asUser(user: EngineUser | undefined): {
  uid?: number;
  gid?: number;
  cwd: string;
  env: NodeJS.ProcessEnv;
} {
  return { ...(user && { uid: user.uid, gid: user.gid }), cwd: '/', env: ENGINE_ENVIRONMENT };
}

/** A program of the package that does not even begin. */
export function cannotSpawn(program: string, error: NodeJS.ErrnoException): EngineError {
  const why: Record<string, string> = {
    // The file is there, but the loader it names is not: the packages are built for glibc.
    ENOENT: 'This system has no glibc (Alpine Linux has not): use an image based on Debian, or set DATABASE_URL',
    EACCES: 'The file may not be executed: its folder is perhaps on a volume mounted with noexec',
    EPERM:
      'Root may not change to another user here (no CAP_SETUID): start Assent as a normal user, or set DATABASE_URL',
  };
  return new EngineError(
    `${program} does not start (${error.message}). ${why[error.code ?? ''] ?? 'Set DATABASE_URL'}.`,
  );
}

/** A sentence for a failure of PostgreSQL, from what it said last, with the remedy where we know it. */
export function explain(what: string, text: string): string {
  const known: [RegExp, string][] = [
    [
      /no space left on device|disk quota exceeded|check free disk space/i,
      'The disk is full: free some space and start again.',
    ],
    [/could not look up effective user ID/, 'This uid has no entry in /etc/passwd: add one, or set DATABASE_URL.'],
    [/could not map anonymous shared memory|Cannot allocate memory/, 'There is too little memory: it needs 400 MB.'],
    [/read-only file system/i, 'The data folder is on a read-only volume: choose another.'],
    [
      /invalid page in|page verification failed|could not locate a valid checkpoint/,
      'The data is damaged: bring back a backup.',
    ],
  ];
  const remedy = known.find(([sign]) => sign.test(text))?.[1] ?? 'Its last words are below; they name the cause.';
  const tail = text
    .trim()
    .split('\n')
    .slice(-12)
    .map((line) => `  ${line}`)
    .join('\n');
  return `${what}. ${remedy}\n${tail}`;
}
