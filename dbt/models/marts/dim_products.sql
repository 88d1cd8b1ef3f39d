with catalogue as (
    select * from {{ ref('stg_products') }}
),

loads as (
    select * from {{ ref('stg_loads') }}
),

events as (
    select * from {{ ref('fct_session_events') }}
    where product_id is not null
),

loaded as (
    select
        load_id,
        source_file,
        max(loaded_at) as loaded_at
    from loads
    group by load_id, source_file
),

newest_entry as (
    select
        catalogue.shop,
        catalogue.product_id,
        catalogue.product_name,
        catalogue.category,
        catalogue.price,
        catalogue.description_vector
    from catalogue
    left join loaded
        on catalogue.load_id = loaded.load_id
        and catalogue.source_file = loaded.source_file
    qualify row_number() over (
        partition by catalogue.shop, catalogue.product_id
        order by loaded.loaded_at desc nulls last, catalogue.source_file desc, catalogue.source_line desc
    ) = 1
),

seen as (
    select
        shop,
        product_id,
        min(event_time) as first_seen_at,
        count(*) as event_count
    from events
    group by shop, product_id
),

newest_price as (
    select
        shop,
        product_id,
        price
    from events
    where price is not null
    qualify row_number() over (
        partition by shop, product_id order by event_time desc, source_file desc, source_line desc, event_id desc
    ) = 1
),

products as (
    select
        coalesce(newest_entry.shop, seen.shop) as shop,
        coalesce(newest_entry.product_id, seen.product_id) as product_id,
        newest_entry.product_name,
        newest_entry.category,
        coalesce(newest_entry.price, newest_price.price) as price,
        seen.first_seen_at,
        coalesce(seen.event_count, 0) as event_count,
        newest_entry.description_vector
    from newest_entry
    full outer join seen
        on newest_entry.shop = seen.shop
        and newest_entry.product_id = seen.product_id
    left join newest_price
        on seen.shop = newest_price.shop
        and seen.product_id = newest_price.product_id
)

select * from products
