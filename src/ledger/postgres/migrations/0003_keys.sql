-- Deduplication keys have another form from now on. Whether keys of the older form may be there is row
-- `older_keys` of `meta`: a schema that was there before gets it, and so does one that something is
-- imported into.
select 1;
