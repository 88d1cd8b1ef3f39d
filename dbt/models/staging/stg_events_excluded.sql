with logged as (
    {{ logged_events() }}
),

loads as (
    select
        load_id,
        max(loaded_at) as loaded_at
    from {{ ref('stg_loads') }}
    group by load_id
),

excluded as (
    select
        load_id,
        case
            {% for reason, condition in exclusions().items() -%}
            when {{ condition }} then '{{ reason }}'
            {% endfor -%}
        end as reason
    from logged
    where not {{ counts() }}
),

counted as (
    select
        excluded.reason,
        count(*) as events,
        max(loads.loaded_at) as newest_load_at
    from excluded
    left join loads on excluded.load_id = loads.load_id
    group by excluded.reason
)

select * from counted
