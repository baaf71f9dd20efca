with parts(place, part) as (values (2, 'K'), (1, 'O'))
select group_concat(part, '') from (select part from parts order by place);
