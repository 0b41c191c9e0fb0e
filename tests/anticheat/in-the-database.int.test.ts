import test from 'ava'
import { useDatabase } from './_database.ts'
import * as lies from './_lies.ts'
import { told } from './_told.ts'

// Every worker passes on whatever it is given, and what is left is the database.
const world = useDatabase(test)

test('what nobody lied about is fully trusted on this road', told(world, lies.truth))
test('AC-1 AC-2 AC-3: flags that a client sends lift nothing', told(world, lies.flagLies))
test('EA-1: a run of another account or device, or none, is attested by nobody', told(world, lies.foreignRuns))
test('a run names nothing of another account, and no submission twice', told(world, lies.foreignNames))
test('rule 5: what is attested other than permitted has not passed the policy', told(world, lies.otherThanPermitted))
test('WT-1 WT-2: hashes that are missing, invented or changed under way', told(world, lies.unpinned))
test('mistake 4: no level of a runner without its binding from permit to attestation', told(world, lies.unbound))
test('RH-4: without a heartbeat of its own a run stays at agent_verified', told(world, lies.heartbeatless))
test('a contender that is no agent, and a version that is none', told(world, lies.wrongContenders))
test('PE-3: what the policy denied is attested by nobody', told(world, lies.denied))
test('a device that fell under way attests nothing', told(world, lies.fallenDevices))
