{#- The column is 1, 2, 3, … without gaps or repeats within each group. -#}
{% test contiguous_from_one(model, column_name, group_by) %}
select {{ group_by }}
from {{ model }}
group by {{ group_by }}
having min({{ column_name }}) != 1
    or max({{ column_name }}) != count(*)
    or count(distinct {{ column_name }}) != count(*)
{% endtest %}
