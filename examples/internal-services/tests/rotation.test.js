import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rotate } from '../rotation.js';
import { ways } from '../../support.js';

for (const [way, port] of Object.entries(ways)) {
    test(`a table of keys: no request fails, ${way}`, async () => {
        const { sent, failures, old } = await rotate({ keys: 'service_keys', database: `rotation_keys_${way}`, port });
        assert.ok(sent > 20);
        assert.deepEqual(failures, {});
        assert.equal(old, 401);
    });
}

test('a single column: requests fail until the services have the new key', async () => {
    const { failed, failures, old } = await rotate({ keys: 'users', database: 'rotation_column' });
    assert.ok(failed > 0);
    assert.deepEqual(Object.keys(failures), ['401']);
    assert.equal(old, 401);
});
