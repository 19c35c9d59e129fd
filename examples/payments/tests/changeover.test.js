import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changeOver } from '../changeover.js';
import { ways } from '../../support.js';

for (const [way, port] of Object.entries(ways)) {
    test(`no valid request fails while keys become hashes, ${way}`, async () => {
        const result = await changeOver({ order: 'right', port, database: `right_${way}`, clients: 10 });
        assert.ok(result.sent > 50, 'there was a load');
        assert.deepEqual(result.failures, {});
        assert.deepEqual([result.admitted, result.left], [0, 0]);
    });
}

test('the load would have noticed: in the wrong order requests fail', async () => {
    const result = await changeOver({ order: 'wrong', database: 'wrong', clients: 10 });
    assert.ok(result.failed > 0);
    assert.ok(result.failures[401] > 0);
    assert.equal(result.admitted, 0);
});
