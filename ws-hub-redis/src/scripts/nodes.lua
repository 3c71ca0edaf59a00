-- The nodes that are alive.
return call('ZRANGEBYSCORE', leases, string.format('(%.0f', now), '+inf')
