import type { Argv } from 'yargs'
import { asVoid, type Choose } from './act.ts'

/** Who is signed in. */
export const sessionCommands = (cli: Argv, choose: Choose): Argv =>
  cli
    .command(
      'login',
      'Sign in: register a session key for your account',
      (login) =>
        login
          .option('gateway', {
            type: 'string',
            requiresArg: true,
            describe: 'The gateway’s descriptor (a file), pinned at first use',
          })
          .option('token-file', {
            type: 'string',
            requiresArg: true,
            describe: 'A sign-in token bound to the nonce; - is standard input',
          })
          .option('nonce', { type: 'boolean', describe: 'Print the nonce to get that token with' })
          .option('dev', { type: 'boolean', describe: 'Ask the development issuer of the local stack' })
          .option('as', { type: 'string', requiresArg: true, implies: 'dev', describe: 'Sign in as this name' })
          .option('stack', {
            type: 'string',
            requiresArg: true,
            implies: 'dev',
            describe: 'The stack’s stack.json; else the nearest .local/stack.json',
          })
          .conflicts('dev', ['token-file', 'nonce'])
          .example('$0 login --dev --as alice', 'with the stack that `npm start` runs')
          .example('$0 login --gateway gateway.json --token-file -', 'with a token from elsewhere'),
      (args) => choose(asVoid(async (context) => (await import('../commands/login.ts')).login(context, args))),
    )
    .command(
      'logout',
      'Forget the session’s key',
      (logout) => logout.example('$0 logout', 'this machine’s own identity stays'),
      () => choose(asVoid(async (context) => (await import('../commands/login.ts')).logout(context))),
    )
    .command(
      'whoami',
      'Whose session this machine holds',
      (whoami) => whoami.example('$0 whoami --json', 'for programs'),
      () => choose(asVoid(async (context) => (await import('../commands/whoami.ts')).whoami(context))),
    )
